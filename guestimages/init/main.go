package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
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
	err := follow(words)
	if err != nil {
		complain(err)
	}
	end(words, err != nil)
}

// follow carries out the plan and returns when the command has exited.
func follow(words cmdline) error {
	for _, m := range kernelMounts {
		if err := mount(m); err != nil {
			return err
		}
	}
	if err := deviceLinks(); err != nil {
		return err
	}
	var p agent.Plan
	if err := readJSON(agent.PlanPath, &p); err != nil {
		return err
	}
	if err := loadModules(p.Modules, words); err != nil {
		return err
	}
	if len(p.OnDemand) > 0 {
		loadDrivers(p, words)
		if err := setModprobe("/init"); err != nil {
			return err
		}
	}
	if name := words.value(agent.ChannelWord); name != "" {
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

// readJSON reads the file into the value that v points to.
func readJSON(file string, v any) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// settle configures the VM as the plan says. It runs after the modules are loaded and before the
// command starts. If a network interface does not come up, or a file in /etc cannot be written,
// settle reports the error and continues.
func settle(p agent.Plan, words cmdline) error {
	more, err := words.interfaces()
	if err != nil {
		complain(err)
	}
	interfaces := append([]netInterface{{name: "lo", address: netip.MustParsePrefix("127.0.0.1/8")}}, more...)
	if slices.ContainsFunc(interfaces, func(i netInterface) bool { return i.dhcp }) {
		// Load the module now: its file cannot be reached from the root file system that is
		// mounted next.
		if _, err := loadAlias(p, packetAlias, words); err != nil {
			complain(err)
		}
	}
	if p.Root != nil {
		if err := moveTo(*p.Root); err != nil {
			return err
		}
	}
	root := words.root()
	if root.device != "" {
		if err := moveToDisk(root); err != nil {
			return err
		}
	}
	for _, m := range p.Mounts {
		if err := mount(m); err != nil && !m.Optional {
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
	e := etc{"/etc", root.device == "" || root.overlay}
	hostname, _ := os.Hostname()                    // "" needs no entry
	_, withoutIPv6 := os.Stat("/proc/net/if_inet6") // an error if the kernel lacks IPv6
	if err := e.addHosts(hostname, withoutIPv6 == nil); err != nil {
		complain(err)
	}
	for _, i := range interfaces {
		if err := configure(i, e); err != nil {
			complain(fmt.Errorf("interface %s: %w", i.name, err))
		}
	}
	return nil
}

// complain reports an error on the console.
func complain(err error) { fmt.Fprintf(os.Stderr, "init: %v\n", err) }
