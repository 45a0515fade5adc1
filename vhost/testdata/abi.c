/*
 * Prints the part of the vhost ABI that the package declares, from the headers
 * of the machine it is compiled on: cc -o abi abi.c && ./abi > abi.golden
 * What older headers lack comes last, and is "absent" there.
 */
#include <stddef.h>
#include <stdio.h>
#include <linux/vhost.h>

#define R(name) printf("request " #name " %#lx\n", (unsigned long)(name));
#define ABSENT(name) puts("absent " #name);
#define S(type) printf("struct " #type " %zu\n", sizeof(struct type));
#define F(type, field) \
	printf("field " #type "." #field " %zu %zu\n", \
	       offsetof(struct type, field), sizeof(((struct type *)0)->field));

int main(void)
{
	R(VHOST_GET_FEATURES) R(VHOST_SET_FEATURES) R(VHOST_SET_OWNER)
	R(VHOST_SET_MEM_TABLE) R(VHOST_SET_VRING_NUM) R(VHOST_SET_VRING_ADDR)
	R(VHOST_SET_VRING_BASE) R(VHOST_SET_VRING_KICK)
	R(VHOST_SET_VRING_CALL) R(VHOST_SET_VRING_ERR)
	R(VHOST_SET_VRING_BUSYLOOP_TIMEOUT) R(VHOST_NET_SET_BACKEND)
	R(VHOST_SCSI_SET_ENDPOINT) R(VHOST_SCSI_CLEAR_ENDPOINT)

	S(vhost_memory) F(vhost_memory, nregions) F(vhost_memory, padding)
	S(vhost_memory_region) F(vhost_memory_region, guest_phys_addr)
	F(vhost_memory_region, memory_size)
	F(vhost_memory_region, userspace_addr)
	F(vhost_memory_region, flags_padding)
	S(vhost_vring_state) F(vhost_vring_state, index) F(vhost_vring_state, num)
	S(vhost_vring_file) F(vhost_vring_file, index) F(vhost_vring_file, fd)
	S(vhost_vring_addr) F(vhost_vring_addr, index) F(vhost_vring_addr, flags)
	F(vhost_vring_addr, desc_user_addr) F(vhost_vring_addr, used_user_addr)
	F(vhost_vring_addr, avail_user_addr) F(vhost_vring_addr, log_guest_addr)
	S(vhost_scsi_target) F(vhost_scsi_target, abi_version)
	F(vhost_scsi_target, vhost_wwpn) F(vhost_scsi_target, vhost_tpgt)
	F(vhost_scsi_target, reserved)

#ifdef VHOST_NEW_WORKER /* 6.5 */
	R(VHOST_NEW_WORKER) R(VHOST_FREE_WORKER) R(VHOST_ATTACH_VRING_WORKER)

	S(vhost_worker_state) F(vhost_worker_state, worker_id)
	S(vhost_vring_worker) F(vhost_vring_worker, index)
	F(vhost_vring_worker, worker_id)
#else
	ABSENT(VHOST_NEW_WORKER) ABSENT(VHOST_FREE_WORKER)
	ABSENT(VHOST_ATTACH_VRING_WORKER)
	ABSENT(vhost_worker_state) ABSENT(vhost_worker_state.worker_id)
	ABSENT(vhost_vring_worker) ABSENT(vhost_vring_worker.index)
	ABSENT(vhost_vring_worker.worker_id)
#endif
#ifdef VHOST_SET_FORK_FROM_OWNER /* 6.17 */
	R(VHOST_SET_FORK_FROM_OWNER)
#else
	ABSENT(VHOST_SET_FORK_FROM_OWNER)
#endif
	return 0;
}
