"""The script that wrote the fixtures runs with version 0.1 alone."""

collect_ignore = ["write_fixtures_0_1.py"]
