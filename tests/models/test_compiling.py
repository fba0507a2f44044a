def test_layers_are_themselves_again_after_training(new_model):
    from hf_paretokd.models.compiling import compiled_layers

    model = new_model()
    layer = model.get_encoder().layers[0]
    method = layer.forward
    with compiled_layers([model], "eager", None):
        assert layer.forward != method
    assert layer.forward == method
    assert "forward" not in vars(layer)
