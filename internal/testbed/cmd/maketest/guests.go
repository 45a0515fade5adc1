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

// guests are the kernels that tests boot, in the order of series.
type guests struct {
	names  []string // as MINIVMM_GUESTS has them
	images []string // bzImages
}

// prepareGuests installs the tools of tests that use KVM or vhost and fetches their guests'
// kernels.
func prepareGuests(ctx context.Context, c *cache.Cache, a *debian.Archive) (guests, error) {
	var g guests
	if err := a.Install(ctx, "testing minivmm", toolPackages...); err != nil {
		return g, err
	}
	for _, name := range series {
		k, err := kernel.Get(ctx, a, name, kernel.Cloud)
		if err != nil {
			return g, err
		}
		if _, err := initrd.Build(ctx, c, k, initrd.Options{}); err != nil {
			return g, err
		}
		g.names = append(g.names, name+"="+k.Image+":"+k.Modules)
		g.images = append(g.images, k.Image)
	}
	// In an emulated host there is no network to fetch it from.
	_, err := kernel.Open(c).Fetch(ctx, "")
	return g, err
}

// env is the environment of tests that use KVM or vhost on a host of that series. Most tests boot
// the first of the guest kernels: each host's own, so that all of them are booted somewhere.
func (g guests) env(c *cache.Cache, host string) []string {
	first := max(0, slices.Index(series, host))
	names := slices.Concat(g.names[first:], g.names[:first])
	return []string{
		"CGO_ENABLED=0", "MINIVMM_REQUIRE=kvm,tun,vhost-net,vhost-scsi,loop,guests," + toolNames,
		"MINIVMM_GUESTS=" + strings.Join(names, " "), "MINIVMM_CACHE=" + c.Root,
	}
}

// debianDisk is the cache's entry of what "minivmm disk debian" makes, with the clients; another
// when these become others.
func debianDisk() string {
	sum := sha256.Sum256(fmt.Append(nil, debianBytes, clientPackages))
	return fmt.Sprintf("tests/debian-%x.img", sum[:4])
}
