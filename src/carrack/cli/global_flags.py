"""The flags that stand before every command, one table for the parser, help, completion and reference pages."""

GLOBAL_FLAGS = """
        --config string         Folder of the client's configuration files (default "~/.docker")
    -c, --context string        Context to reach the daemon with, instead of DOCKER_HOST and "context use"
    -D, --debug bool            Say more about what goes on
    -H, --host list             Daemon socket to connect to
    -l, --log-level string=info Logging level ("debug", "info", "warn", "error", "fatal")
        --tls bool              Use TLS; implied by --tlsverify
        --tlscacert string      Trust only certificates signed by this CA (default "~/.docker/ca.pem")
        --tlscert string        TLS certificate file (default "~/.docker/cert.pem")
        --tlskey string         TLS key file (default "~/.docker/key.pem")
        --tlsverify bool        Use TLS and verify the remote
    -v, --version bool          Print version information and quit
"""
