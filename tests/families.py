"""Small models of several families of transformers."""

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MBartConfig,
    MBartForConditionalGeneration,
    PegasusConfig,
    PegasusForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_paretokd.models.head import secure_pad_row

BART_LIKE = {
    "vocab_size": 60,
    "d_model": 16,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": 2,
    "dropout": 0.0,
}


FAMILIES = {
    "marian": lambda: MarianMTModel(MarianConfig(**{**BART_LIKE, "pad_token_id": 59, "decoder_start_token_id": 59})),
    "bart": lambda: BartForConditionalGeneration(BartConfig(**BART_LIKE)),
    "mbart": lambda: MBartForConditionalGeneration(MBartConfig(**BART_LIKE)),
    "m2m100": lambda: M2M100ForConditionalGeneration(M2M100Config(**BART_LIKE)),
    "pegasus": lambda: PegasusForConditionalGeneration(PegasusConfig(**BART_LIKE)),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(
            vocab_size=60,
            d_model=16,
            d_kv=8,
            d_ff=24,
            num_layers=3,
            num_decoder_layers=3,
            num_heads=2,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
            dropout_rate=0.0,
        )
    ),
}


DEPTHS = ["3-3", "3-1", "2-2", "1-1", "1-3"]


def family(name):
    torch.manual_seed(0)
    model = FAMILIES[name]()
    for parameter in model.parameters():  # so that biases and norms matter
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    if name == "marian":
        secure_pad_row(model)
    return model.eval()


def inputs():
    torch.manual_seed(1)
    return {
        "input_ids": torch.randint(3, 58, (4, 9)),
        "labels": torch.randint(3, 58, (4, 7)),
        "attention_mask": torch.tensor([[1] * 9, [1] * 9, [1] * 6 + [0] * 3, [1] * 4 + [0] * 5]),
    }
