#!/usr/bin/env bash
# Sources ROS and goes on with the command that was given.
set -eo pipefail
# shellcheck disable=SC1090  # the distribution of the image
source "/opt/ros/${ROS_DISTRO:?no ROS distribution in this image}/setup.bash"
exec "$@"
