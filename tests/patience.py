"""How long a test waits for a process or thread before it fails."""

PATIENCE = 600  # seconds, however busy the machine is
