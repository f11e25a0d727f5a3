"""Arrays and tensors in one form: blocks, memory checks, standardisation, support."""
