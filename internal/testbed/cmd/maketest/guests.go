package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
	"minivmm/guestimages/initrd"
	"minivmm/guestimages/kernel"
)

// guests holds the kernels that tests boot, in the order of the variable series.
type guests struct {
	names  []string // as in MINIVMM_GUESTS: NAME=IMAGE:MODULES
	images []string // paths of bzImages
}

// prepareGuests installs the tools that tests of KVM and vhost use, fetches the guests' kernels and
// builds their initrds.
func prepareGuests(ctx context.Context, c *cache.Cache, a *debian.Archive) (guests, error) {
	var g guests
	if err := a.Install(ctx, "testing minivmm", toolPackages...); err != nil {
		return g, err
	}
	for _, name := range series {
		k, err := kernel.Get(ctx, a, name+"-cloud")
		if err != nil {
			return g, err
		}
		if _, err := initrd.Build(ctx, c, k, initrd.Options{}); err != nil {
			return g, err
		}
		g.names = append(g.names, name+"="+k.Image+":"+k.Modules)
		g.images = append(g.images, k.Image)
	}
	// An emulated host has no network, so the kernel that minivmm boots by default must be fetched
	// here.
	_, err := kernel.Open(c).Fetch(ctx, "")
	return g, err
}

// env returns the environment for tests that use KVM or vhost. The parameter host names the kernel
// series of the host that runs the tests, or is empty. Most tests boot only the first guest kernel.
// The host's own series comes first, so that each kernel is booted on some host.
func (g guests) env(c *cache.Cache, host string) []string {
	first := max(0, slices.Index(series, host))
	names := slices.Concat(g.names[first:], g.names[:first])
	return []string{
		"CGO_ENABLED=0", "MINIVMM_REQUIRE=kvm,tun,vhost-net,vhost-scsi,loop,guests," + toolNames,
		"MINIVMM_GUESTS=" + strings.Join(names, " "), "MINIVMM_CACHE=" + c.Root,
	}
}

// debianDisk returns the name of the cache entry for the Debian disk with clientPackages. The name
// changes with the packages and the size.
func debianDisk() string {
	sum := sha256.Sum256(fmt.Append(nil, debianBytes, clientPackages))
	return fmt.Sprintf("tests/debian-%x.img", sum[:4])
}
