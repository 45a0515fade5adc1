package main

import (
	"context"
	"errors"
	"os"

	"minivmm/vmm/config"
)

func main() {
	os.Exit(execute(start, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// start runs a machine until it ends.
func start(context.Context, *config.Config, startOptions) (int, error) {
	return exitInternal, errors.New("this build has no machine")
}
