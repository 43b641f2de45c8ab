# What agents find in an E2B sandbox. Pin what matters to you; the versions here were current when this was written.
FROM node:22-bookworm-slim

RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      bash ca-certificates coreutils curl git jq make procps python3 python3-pip python3-venv ripgrep tar util-linux \
 && rm -rf /var/lib/apt/lists/*

RUN npm install --global --no-fund --no-audit @anthropic-ai/claude-code@2 && npm cache clean --force
