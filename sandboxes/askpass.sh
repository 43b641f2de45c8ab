#!/bin/sh
# Answers git's questions for a credential from the environment of this one git call, never from an argument.
case "$1" in
  Username*) printf '%s\n' "x-access-token" ;;
  *) printf '%s\n' "$WORKORDERS_GIT_TOKEN" ;;
esac
