"""Crystal record, Arrow schema and codec, formulas, split, readers and writers."""
