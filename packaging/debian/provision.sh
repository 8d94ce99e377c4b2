#!/bin/sh
exec /usr/lib/provision/bin/python3 -I -m provision "$@"
