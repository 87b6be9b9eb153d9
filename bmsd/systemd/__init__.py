"""Being a good service of systemd, without its library; nothing here is needed to run without it."""
