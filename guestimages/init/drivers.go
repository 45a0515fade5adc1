package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
)

// modaliases are the patterns of the files that hold the devices' aliases. A device's alias leads
// to the device's driver.
var modaliases = [...]string{"/sys/bus/*/devices/*/modalias", "/sys/class/input/input*/modalias"}

// loadDrivers loads the drivers of all devices, including devices that a driver adds. It prints an
// error for a driver that does not load, and continues: whatever needs the driver fails later.
func loadDrivers(p agent.Plan, words cmdline) {
	seen := map[string]bool{}
	for again := true; again; {
		again = false
		for _, pattern := range modaliases {
			files, _ := filepath.Glob(pattern)
			for _, file := range files {
				alias := readWord(file)
				if alias == "" || seen[alias] {
					continue
				}
				seen[alias] = true
				n, err := loadAlias(p, alias, words)
				if err != nil {
					complain(err)
				}
				again = again || n > 0
			}
		}
	}
}

// loadAlias loads the modules that match the alias, and returns their number.
func loadAlias(p agent.Plan, alias string, words cmdline) (n int, err error) {
	for _, m := range p.OnDemand {
		if !asked(m, alias) {
			continue
		}
		n++
		if err := loadModules(m.Files, words); err != nil {
			return n, err
		}
	}
	return n, nil
}

// loadModules loads the module files, which must be in load order.
func loadModules(files []string, words cmdline) error {
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".ko")
		if err := loadModule(file, words.parameters(name)); err != nil {
			return err
		}
	}
	return nil
}

func loadModule(file, parameters string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), parameters, 0)
	// EEXIST: the module is loaded already. ENODEV: its hardware is missing.
	if err == nil || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return &os.PathError{Op: "finit_module", Path: file, Err: err}
}

// asked reports whether the alias matches the module m. In a module's name "-" is equivalent to
// "_".
func asked(m agent.Module, alias string) bool {
	if strings.ReplaceAll(alias, "-", "_") == m.Name {
		return true
	}
	for _, pattern := range m.Aliases {
		// A pattern that path.Match rejects matches nothing.
		if ok, _ := path.Match(pattern, alias); ok {
			return true
		}
	}
	return false
}

// modprobePath is the file that names the program that the kernel runs as modprobe(8)
// (Documentation/admin-guide/sysctl/kernel.rst).
const modprobePath = "/proc/sys/kernel/modprobe"

// setModprobe makes the kernel run the given program whenever the kernel needs a module, such as a
// file system's.
func setModprobe(program string) error {
	return os.WriteFile(modprobePath, []byte(program), 0)
}

// modprobe handles a call by the kernel: "/init -q -- NAME".
func modprobe(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("modprobe: no module given")
	}
	name := args[len(args)-1]
	var p agent.Plan
	if err := readJSON(agent.PlanPath, &p); err != nil {
		return err
	}
	n, err := loadAlias(p, name, kernelWords())
	if err == nil && n == 0 {
		err = fmt.Errorf("modprobe: module %s not found", name)
	}
	return err
}
