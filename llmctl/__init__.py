"""llmctl: one YAML profile per model, one systemd user unit per profile, switches that are true."""

__version__ = "0.1.0"
