import torch

from hf_paretokd.bench.shapes import SHAPES
from hf_paretokd.bench.training import loss_step


def test_the_forms_of_the_loss_agree(monkeypatch):
    from hf_paretokd.bench import training

    shape, found = SHAPES["tiny"], {}
    make = training.loss_inputs
    for form in ("torch", "kept", "computed again"):
        states, weight, targets = make(shape, 50)
        monkeypatch.setattr(training, "loss_inputs", lambda *_, inputs=(states, weight, targets): inputs)
        gradients = []
        weight.register_hook(gradients.append)
        loss_step(shape, 50, form)()
        found[form] = gradients[0]
    torch.testing.assert_close(found["kept"], found["torch"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["computed again"], found["kept"])
