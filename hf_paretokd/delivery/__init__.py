"""Students leave the house: extraction, the translation pipeline, model cards."""
