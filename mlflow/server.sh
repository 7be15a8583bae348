#!/bin/sh
# Start an MLflow server for several sweeps:  mlflow/server.sh mlflow/person.env
#                                             mlflow/server.sh my_group.env      (a private copy of mlflow/group.env)
# Settings and secrets come from the file, never from the command line, which `ps` shows to everybody.
set -eu
umask 077
[ $# -eq 1 ] && [ -f "$1" ] || { echo "usage: $0 SETTINGS.env" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
settings=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
set -a
. "$settings"
set +a
folder=${SERVER_FOLDER:?$settings names no SERVER_FOLDER}
mkdir -p "$folder"
cd "$folder" # relative paths of the settings lie here

login=
if [ "${SERVER_LOGIN:-no}" = yes ]; then
    case $(ls -l "$settings") in
    -rw-------* | -r--------*) ;;
    *) echo "$settings holds a password: chmod 600 $settings" >&2; exit 2 ;;
    esac
    login="--app-name basic-auth"
    export MLFLOW_AUTH_CONFIG_PATH="${MLFLOW_AUTH_CONFIG_PATH:-$here/basic_auth.ini}"
    [ -s flask_secret ] || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > flask_secret
    MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat flask_secret)
    export MLFLOW_FLASK_SERVER_SECRET_KEY
fi
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # the jobs are for chat models
exec "${PYTHON:-python}" -m mlflow server $login --workers "${SERVER_WORKERS:-1}"
