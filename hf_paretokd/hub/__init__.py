"""Models leave the house: cards, checkpoints of students, uploads. Facts are handed in; no method and no run is known here."""
