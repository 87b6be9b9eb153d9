"""The module side: boards and contactor units on the field bus."""
