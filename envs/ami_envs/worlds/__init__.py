"""The worlds that come with the package, one file each; `ami_envs.registry` lists them by id."""
