package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// boot hands the machine over to the init of the system on the disk, as process 1. It returns only
// with an error.
func boot(root rootWords) error {
	if err := moveToDisk(root); err != nil {
		return err
	}
	candidates := []string{"/sbin/init", "/etc/init", "/bin/init"}
	if root.init != "" {
		candidates = []string{root.init}
	}
	for _, path := range candidates {
		err := unix.Exec(path, []string{path}, []string{"HOME=/", "TERM=linux"})
		if !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "execve", Path: path, Err: err}
		}
	}
	return fmt.Errorf("root %s: no program at %q: name one with init=, or run a command on it with minivmm run ... -- COMMAND", root.device, candidates)
}
