"""The scripts that wrote the fixtures run with earlier versions alone."""

collect_ignore = ["write_fixtures_0_1.py", "write_fixtures_0_2_dev.py"]
