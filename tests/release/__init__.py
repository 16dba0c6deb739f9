"""Makes and checks what is published: `make sdist`, `make wheels`, `make wheels-arm`, and what `wheels.yml` calls."""
