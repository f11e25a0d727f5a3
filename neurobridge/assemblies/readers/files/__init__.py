"""Files of arrays, a module a format: what is in them, and one array of them."""
