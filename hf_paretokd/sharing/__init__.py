"""What a finished run hands over: costs and choices, a report, cards, exports, uploads."""
