package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
)

// runOnConsole runs the command with the console as its terminal.
func runOnConsole(p agent.Plan) error {
	run, err := complete(agent.Command{Argv: os.Args[1:]}, p)
	if err != nil {
		return err
	}
	// Open the terminal behind /dev/console: /dev/console itself cannot be a controlling terminal.
	names := strings.Fields(readWord("/sys/class/tty/console/active"))
	if len(names) == 0 {
		return errors.New("no console: set console= on the kernel command line")
	}
	tty, err := os.OpenFile("/dev/"+names[len(names)-1], os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer tty.Close()
	pid, err := start(run, [3]*os.File{tty, tty, tty}, true)
	exit := agent.Exit{Status: 127}
	if err != nil {
		complain(err)
	} else {
		exit = reap(pid)
	}
	killAll(5 * time.Second)
	// The kernel hung up tty when the terminal's session ended, but it never hangs up
	// /dev/console, which is stderr. Tests wait for this line.
	fmt.Fprintf(os.Stderr, "init: exit status %d\n", exit.Code())
	return nil
}
