"""Results kept on disk: ``store`` has one entry for each key, ``fingerprint`` makes the keys."""
