"""Where tracked events go."""
