package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"minivmm/guestimages/agent"
)

// modaliases are where devices say what drives them.
var modaliases = [...]string{"/sys/bus/*/devices/*/modalias", "/sys/class/input/input*/modalias"}

// loadDrivers loads the modules of the devices that are there, and of those that appear through them. A device whose driver does
// not load is told, and what needs it says so in its turn.
func loadDrivers(p agent.Plan, words cmdline) {
	seen := map[string]bool{}
	for again := true; again; {
		again = false
		for _, pattern := range modaliases {
			files, _ := filepath.Glob(pattern)
			for _, file := range files {
				b, err := os.ReadFile(file)
				alias := strings.TrimSpace(string(b))
				if err != nil || alias == "" || seen[alias] {
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

// loadAlias loads the modules that the alias asks for, and says how many there are.
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

// asked reports whether the alias asks for m. Dashes and underscores are the same in a module's name.
func asked(m agent.Module, alias string) bool {
	if strings.ReplaceAll(alias, "-", "_") == m.Name {
		return true
	}
	for _, pattern := range m.Aliases {
		// What path.Match does not understand matches nothing.
		if ok, _ := path.Match(pattern, alias); ok {
			return true
		}
	}
	return false
}

// modprobePath is where the kernel finds its modprobe(8), Documentation/admin-guide/sysctl/kernel.rst.
const modprobePath = "/proc/sys/kernel/modprobe"

// answerModprobe makes this program what the kernel calls for a module: a file system's that is mounted, a cipher's.
func answerModprobe() error {
	return os.WriteFile(modprobePath, []byte("/init"), 0)
}

// forgetModprobe gives the kernel the usual program back, for a tree that has one.
func forgetModprobe() error {
	return os.WriteFile(modprobePath, []byte("/sbin/modprobe"), 0)
}

// modprobe is this program as the kernel calls it: "/init -q -- NAME".
func modprobe(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("modprobe: no module named")
	}
	name := args[len(args)-1]
	p, err := readPlan()
	if err != nil {
		return err
	}
	n, err := loadAlias(p, name, kernelWords())
	if err == nil && n == 0 {
		err = fmt.Errorf("modprobe: no module %s", name)
	}
	return err
}
