"""Recipes: YAML files and the script that runs them."""
