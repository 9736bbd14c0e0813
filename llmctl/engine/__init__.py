"""observe -> plan -> apply -> verify -> roll back. Knows no systemctl words and prints nothing."""
