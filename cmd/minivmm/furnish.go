package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/initrd"
	"minivmm/guestimages/kernel"
	"minivmm/guestimages/oci"
	"minivmm/vmm"
	"minivmm/vmm/config"
)

// runsOurInit reports whether minivmm's own init runs in the guest and receives its command through
// the channel. If the kernel parameters contain root= and there is no command, the system on the
// disk named by root= boots and uses the console.
func runsOurInit(cfg *config.Config, command []string) (bool, error) {
	_, stored := cfg.Boot.Kernel.Stored()
	initIsOurs := stored && cfg.Boot.Initrd == ""
	switch {
	case !initIsOurs && len(command) > 0:
		return false, usageError{errors.New("a command requires minivmm's own init, which this machine does not have: remove boot.initrd, and boot.kernel if it is a file")}
	case !initIsOurs && cfg.Image != "":
		return false, fileError{errors.New("image: an image requires minivmm's own init: remove boot.initrd, and boot.kernel if it is a file")}
	}
	return initIsOurs && (cfg.Image != "" || len(command) > 0 || !strings.Contains(" "+string(cfg.Boot.Cmdline), " root=")), nil
}

// furnishGuest fills in the parts of a plan that the user's configuration leaves to minivmm: a
// kernel from the store, an initial RAM file system with minivmm's own init, an image's disk, and
// the kernel parameters for that init. If again is set, another process will repeat this work and
// print the messages.
func furnishGuest(ctx context.Context, p *vmm.Plan, log io.Writer, again bool) error {
	name, stored := p.Boot.Kernel.Stored()
	if !stored {
		// If unpackKernel fails, the VM boots the packed file, which takes longer.
		if err := unpackKernel(ctx, p, log); err != nil && !again {
			fmt.Fprintf(log, "minivmm: the unpacked kernel cannot be cached for the next start: %v\n", err)
		}
		return nil
	}
	c, err := openCache(log)
	if err != nil {
		return err
	}
	k, err := kernel.Open(c).Fetch(ctx, name)
	if err != nil {
		return err
	}
	file := k.Vmlinux
	if file == "" || p.Boot.KASLR {
		file = k.Image
	}
	p.Boot.Kernel = config.Kernel(file)
	if p.Boot.Initrd != "" {
		return nil
	}
	initrd, err := initrd.Build(ctx, c, k, initrd.Options{})
	if err != nil {
		return err
	}
	p.Boot.Initrd = config.Path(initrd)
	// net.ifnames=0: the guest's interfaces keep the names that the kernel gave them. The ip=
	// parameters use these names.
	words := []string{"quiet", "hostname=" + string(p.Name), "net.ifnames=0"}
	for i, n := range p.Net {
		words = append(words, addressWord(i, n, p.Boot.Cmdline)...)
	}
	if p.Image != "" {
		disk, err := oci.Build(ctx, c, string(p.Image), oci.Options{Install: installer(log)})
		if err != nil {
			return err
		}
		p.Disk[0].Path = config.Path(disk.Path)
		words = append(words, "root=/dev/sda", "ro", "minivmm.root=overlay")
	}
	if len(p.Ports) > 0 {
		words = append(words, agent.ChannelWord+"="+channelName)
	}
	p.Boot.Cmdline = config.Cmdline(strings.TrimSpace(strings.Join(words, " ") + " " + string(p.Boot.Cmdline)))
	return nil
}

// unpackKernel replaces a packed kernel file in the plan with the unpacked vmlinux from the store.
// If the store does not have the vmlinux yet, unpackKernel adds it.
func unpackKernel(ctx context.Context, p *vmm.Plan, log io.Writer) error {
	if p.Boot.KASLR {
		return nil
	}
	c, err := openCache(log)
	if err != nil {
		return err
	}
	vmlinux, err := kernel.Open(c).Unpacked(ctx, string(p.Boot.Kernel))
	if err == nil {
		p.Boot.Kernel = config.Kernel(vmlinux)
	}
	return err
}

// addressWord returns the ip= parameter that sets the guest's address to the one after the host's
// address. If the configuration has no host address, the guest uses DHCP in two cases: on an
// existing tap or bridge, which may have a DHCP server, and on minivmm's own network, which has
// one. An ip= in the user's parameters replaces DHCP.
func addressWord(index int, n config.Net, user config.Cmdline) []string {
	if !n.Address.IsValid() {
		asks := n.Tap != "" || n.Bridge != "" || n.Backend == config.NetUser
		if !asks || strings.Contains(" "+string(user), " ip=") {
			return nil
		}
		return []string{fmt.Sprintf("ip=:::::eth%d:dhcp", index)}
	}
	guest, ok := peer(n.Address.Prefix)
	if !ok {
		return nil
	}
	gateway := n.Address.Addr().String()
	if index > 0 {
		gateway = "" // the guest gets only one default route
	}
	mask := net.IP(net.CIDRMask(n.Address.Bits(), 32))
	return []string{fmt.Sprintf("ip=%s::%s:%s::eth%d:off", guest, gateway, mask, index)}
}

// peer returns the guest's address for a given host address: the next address, or the previous
// address if the next one is the broadcast address. ok is false in a network of one address, and
// for IPv6, for which minivmm's init accepts no static address.
func peer(host netip.Prefix) (_ netip.Addr, ok bool) {
	next, prev := host.Addr().Next(), host.Addr().Prev()
	switch {
	case !host.Addr().Is4():
		return netip.Addr{}, false
	case host.Bits() == 31 && host.Contains(next): // two addresses and no broadcast address, RFC 3021
		return next, true
	case host.Bits() == 31:
		return prev, true
	case host.Contains(next) && host.Contains(next.Next()):
		return next, true
	}
	return prev, host.Contains(prev) && prev != host.Masked().Addr()
}
