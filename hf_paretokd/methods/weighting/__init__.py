"""Distillation weights α_i[ℓ] of Pareto mutual distillation: the rules that set them, and how trials are taken back."""
