"""REST, WebSocket stream and metrics over HTTP."""
