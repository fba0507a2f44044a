"""The Trainer and what surrounds an update: arguments, checkpoints, callbacks, validation, uploads."""
