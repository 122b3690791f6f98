"""What is fuzzed and how: `targets` names every place where strangers' bytes are read, `run` drives one under atheris."""
