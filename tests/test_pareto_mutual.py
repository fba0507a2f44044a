"""Smoke for now."""
import torch, pytest
from hf_paretokd import ParetoMutualConfig, ParetoMutualTrainer
def test_runs(new_model, encoded, tokenizer, tmp_path):
    config = ParetoMutualConfig(output_dir=str(tmp_path), max_steps=12, max_tokens=400, warmup_steps=2, eval_steps=4, logging_steps=2, learning_rate=3e-3, update_interval=4, bf16=True, trial_share=0.05, disable_tqdm=False)
    t = ParetoMutualTrainer([new_model(1), new_model(2)], config, train_dataset=encoded["train"], eval_dataset=encoded["validation"], processing_class=tokenizer)
    t.train()
    print(t.rule.history[-1]); print(t.state.log_history[-3:])
    print(list(tmp_path.rglob("*.json")))
