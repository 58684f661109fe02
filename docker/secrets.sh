#!/bin/sh
# Makes the secrets that docker/compose.yaml mounts: a password each for PostgreSQL and Valkey, and the addresses that
# carry them. Run it once; what is there is never overwritten.
#   sh docker/secrets.sh [DIRECTORY]
set -eu
directory=${1:-"$(dirname "$0")/secrets"}
umask 077
mkdir "$directory" || { echo "$directory must not be there yet: its passwords may be in use" >&2; exit 2; }
password() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
postgres=$(password)
valkey=$(password)
cd "$directory"
printf '%s' "$postgres" > postgres_password
printf 'postgresql://touchstone:%s@postgres:5432/touchstone' "$postgres" > database_url
printf 'redis://:%s@valkey:6379/0' "$valkey" > broker_url
printf 'requirepass %s\nsave ""\nappendonly no\nmaxmemory-policy noeviction\n' "$valkey" > valkey.conf
# The directory is closed to others; inside, containers read the files under users of their own.
chmod 0444 postgres_password database_url broker_url valkey.conf
echo "made $directory"
