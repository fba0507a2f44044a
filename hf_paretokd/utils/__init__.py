"""Small tools that know nothing of translation."""
