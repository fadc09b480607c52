#!/bin/sh
# MLflow's own role and database; it owns nothing else.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$MLFLOW_DB_PASSWORD" -U postgres <<'SQL'
CREATE ROLE mlflow LOGIN PASSWORD :'password';
CREATE DATABASE mlflow OWNER mlflow;
SQL
