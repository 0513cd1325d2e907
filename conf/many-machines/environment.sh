# What every shell on every machine needs before it starts Ray or filoray: . conf/many-machines/environment.sh
# Secrets of your own in place of these two, the same on each machine.

# PostgreSQL, with a database that this cluster has to itself.
export FILORAY_DATABASE="postgresql+psycopg://metrics:change-me@10.99.0.4:5432/filoray"

# Ray runs the code of whoever may speak to it: that is who knows this.
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN=change-me-too-to-a-long-random-text

export RAY_USAGE_STATS_ENABLED=0
# Ray runs its workers at niceness 15, behind every other process of the machine; heartbeats are among what they do.
export RAY_worker_niceness=0
