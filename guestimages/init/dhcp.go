package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"minivmm/guestimages/agent"
)

// leaseWait is how long a network may take to answer; a guest without a network goes on without.
const leaseWait = 15 * time.Second

// defaultLease is for an answer that names no time.
const defaultLease = time.Hour

// minRenewal keeps a server that gives a lease of no time from being asked without end.
const minRenewal = time.Minute

// packetAlias is what the kernel asks modprobe(8) for when a program opens a packet socket, as a DHCP client does: the module
// of PF_PACKET.
const packetAlias = "net-pf-17"

// askDHCP brings the interface up with what a DHCPv4 server gives it (RFC 2131), and keeps the lease for as long as the
// machine runs.
func askDHCP(name string, e etc) error {
	if err := bringUp(agent.Interface{Name: name}); err != nil {
		return err
	}
	client, err := nclient4.New(name)
	if err != nil {
		return fmt.Errorf("dhcp: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaseWait)
	defer cancel()
	lease, err := client.Request(ctx, dhcpv4.WithRequestedOptions(dhcpv4.OptionDomainName, dhcpv4.OptionDNSDomainSearchList))
	if err != nil {
		return errors.Join(fmt.Errorf("dhcp: no answer in %v: %w", leaseWait, err), client.Close())
	}
	if err := bringUp(leased(name, lease.ACK)); err != nil {
		return errors.Join(err, client.Close())
	}
	go keepLease(client, lease)
	return e.writeResolvConf(nameservers(lease.ACK), searchList(lease.ACK))
}

// keepLease renews at half the lease's time (RFC 2131 section 4.4.5). A server that refuses leaves the address as it is.
func keepLease(client *nclient4.Client, lease *nclient4.Lease) {
	for {
		time.Sleep(renewal(lease.ACK))
		ctx, cancel := context.WithTimeout(context.Background(), leaseWait)
		renewed, err := client.Renew(ctx, lease)
		cancel()
		if err != nil {
			fmt.Fprintf(os.Stderr, "init: dhcp: %v\n", err)
			continue
		}
		lease = renewed
	}
}

// renewal is how long to wait before a lease is renewed.
func renewal(ack *dhcpv4.DHCPv4) time.Duration {
	return max(ack.IPAddressLeaseTime(defaultLease)/2, minRenewal)
}

// leased is the interface as the answer wants it.
func leased(name string, ack *dhcpv4.DHCPv4) agent.Interface {
	i := agent.Interface{Name: name}
	ip, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok {
		return i
	}
	bits, size := ack.SubnetMask().Size()
	if size != 32 {
		bits, _ = ack.YourIPAddr.DefaultMask().Size()
	}
	i.Address = netip.PrefixFrom(ip, bits).String()
	if routers := ack.Router(); len(routers) > 0 {
		i.Gateway = routers[0].String()
	}
	return i
}

func nameservers(ack *dhcpv4.DHCPv4) []string {
	var all []string
	for _, ip := range ack.DNS() {
		all = append(all, ip.String())
	}
	return all
}

func searchList(ack *dhcpv4.DHCPv4) []string {
	if s := ack.DomainSearch(); s != nil && len(s.Labels) > 0 {
		return s.Labels
	}
	if name := ack.DomainName(); name != "" {
		return []string{name}
	}
	return nil
}
