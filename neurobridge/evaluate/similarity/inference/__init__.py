"""How far RDMs are known, and which models of them differ."""
