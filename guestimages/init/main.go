package main

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/plan"
)

func main() {
	if os.Getpid() != 1 {
		if err := modprobe(os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "init: %v\n", err)
			os.Exit(1)
		}
		return
	}
	words := kernelWords()
	if err := follow(words); err != nil {
		fmt.Fprintf(os.Stderr, "init: %v\n", err)
	}
	end(words)
}

// follow does what the plan says, up to the end of the command.
func follow(words cmdline) error {
	for _, m := range kernelMounts {
		if err := mount("", m); err != nil {
			return err
		}
	}
	if err := deviceLinks(); err != nil {
		return err
	}
	p, err := readPlan()
	if err != nil {
		return err
	}
	if err := loadModules(p.Modules, words); err != nil {
		return err
	}
	if len(p.OnDemand) > 0 {
		if err := loadDrivers(p, words); err != nil {
			return err
		}
		if err := answerModprobe(); err != nil {
			return err
		}
	}
	if name := words.value(plan.ChannelWord); name != "" {
		p.Channel = name
	}
	root := words.root()
	if p.Channel == "" && root.device != "" && len(os.Args) == 1 {
		return boot(root)
	}
	watchButtons(words)
	if p.Channel != "" {
		return serve(p, words)
	}
	if err := settle(p, words); err != nil {
		return err
	}
	return runOnConsole(p)
}

func readPlan() (plan.Plan, error) {
	var p plan.Plan
	b, err := os.ReadFile(plan.Path)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("%s: %w", plan.Path, err)
	}
	return p, nil
}

// settle makes the machine what the plan says, after the modules and before the command.
func settle(p plan.Plan, words cmdline) error {
	if p.Root != nil {
		if err := moveTo(*p.Root); err != nil {
			return err
		}
	}
	if root := words.root(); root.device != "" {
		if err := moveToDisk(root); err != nil {
			return err
		}
	}
	for _, m := range p.Mounts {
		if err := mount("", m); err != nil && !m.Optional {
			return err
		}
	}
	for _, w := range p.Writes {
		if err := os.WriteFile(w.Path, []byte(w.Text), 0); err != nil {
			return err
		}
	}
	if p.Hostname != "" {
		if err := unix.Sethostname([]byte(p.Hostname)); err != nil {
			return os.NewSyscallError("sethostname", err)
		}
	}
	interfaces := append([]plan.Interface{{Name: "lo", Address: "127.0.0.1/8"}}, p.Interfaces...)
	more, err := words.interfaces()
	if err != nil {
		return err
	}
	for _, i := range append(interfaces, more...) {
		if err := configure(i); err != nil {
			return fmt.Errorf("interface %s: %w", i.Name, err)
		}
	}
	return nil
}

func configure(i plan.Interface) error {
	if i.DHCP {
		return askDHCP(i.Name)
	}
	writeResolvConf(i.Nameservers, nil)
	return bringUp(i)
}
