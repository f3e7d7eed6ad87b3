"""What users run: one module per command, each with its flags."""
