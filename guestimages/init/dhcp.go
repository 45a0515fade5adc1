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
)

const (
	leaseWait    = 15 * time.Second // limits the wait for an answer, without which the guest has no network
	defaultLease = time.Hour        // applies to an answer without a lease time
	minRenewal   = time.Minute      // limits the request rate if a server grants leases of 0 s
)

// packetAlias is the module alias of PF_PACKET. The kernel asks modprobe(8) for it when a program
// opens a packet socket, as a DHCP client does.
const packetAlias = "net-pf-17"

// askDHCP gets a lease from a DHCPv4 server (RFC 2131), configures the interface with it, and keeps
// the lease.
func askDHCP(name string, e etc) error {
	if err := bringUp(netInterface{name: name}); err != nil {
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
	i := leased(name, lease.ACK)
	if err := bringUp(i); err != nil {
		return errors.Join(err, client.Close())
	}
	go keepLease(client, lease)
	return e.writeResolvConf(i.nameservers, searchList(lease.ACK))
}

// keepLease renews the lease after half of the lease time (RFC 2131 section 4.4.5). If a renewal
// fails, the interface keeps its address.
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

// renewal returns how long to wait before a lease is renewed.
func renewal(ack *dhcpv4.DHCPv4) time.Duration {
	return max(ack.IPAddressLeaseTime(defaultLease)/2, minRenewal)
}

// leased returns the interface with the configuration in the server's answer ack.
func leased(name string, ack *dhcpv4.DHCPv4) netInterface {
	i := netInterface{name: name}
	for _, ip := range ack.DNS() {
		i.nameservers = append(i.nameservers, ip.String())
	}
	ip, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok {
		return i
	}
	bits, size := ack.SubnetMask().Size()
	if size != 32 {
		bits, _ = ack.YourIPAddr.DefaultMask().Size()
	}
	i.address = netip.PrefixFrom(ip, bits)
	if routers := ack.Router(); len(routers) > 0 {
		i.gateway = routers[0].String()
	}
	return i
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
