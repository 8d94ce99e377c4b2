"""The inventory: YAML in, a checked Inventory or every problem with its line out."""
