"""Everything that runs a scan: the runner, model hosts, and local scans."""
