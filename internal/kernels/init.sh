#!/bin/busybox sh
# The only process of a virtual machine: runs JOB, which the kernel takes from
# its command line into the environment, and says on the port RESULT how that
# ended. Without the last line the machine has failed.
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=1777 tmp /tmp
chmod 755 / # for those who are not root
ip link set lo up
for module in inet_diag tcp_diag; do
	[ ! -e /modules/$module.ko ] || insmod /modules/$module.ko
done

export FINWAIT_OWN_MACHINE=1 # a test may set its clock
# Collecting garbage is slow here, and so is waiting for what runs on the other CPU.
export GOGC=off GOMEMLIMIT=500MiB GOMAXPROCS=1
exec >/dev/$RESULT 2>&1
stty -F /dev/$RESULT raw # as long as it is open
status=0
case $JOB in
test)
	/tracer.test -test.v=test2json -test.run '^TestVerifierCost$' || status=$?
	/privilege.test -test.v=test2json || status=$?
	privilege='^TestPrivilege(Least|Optional|Syslog)$' # what differs between kernels
	# What no hook of minisocks has part in is tested with one set, and what is
	# the same on every kernel with none.
	skip='^TestNothingLeaks$|^TestReadToTheEnd$'
	for hooks in fentry tracepoint; do
		echo "hooks $hooks"
		FINWAIT_HOOKS=$hooks timeout "$LIMIT" /live.test -test.v=test2json -test.short \
			-test.skip "$skip" ${RUN:+-test.run "$RUN"} || status=$?
		FINWAIT_HOOKS=$hooks timeout "$LIMIT" /finwait.test -test.v=test2json -test.short -test.run "$privilege" || status=$?
		privilege='^TestPrivilege(Least|Syslog)$'
		skip='Filters?$|FilterShows|Filtered$|Groups|^TestLifecycle$|^TestNothingLeaks$|^TestReadToTheEnd$|^TestFlood$|^TestRingFull$'
	done
	;;
refuse)
	NO_COLOR=1 timeout "$LIMIT" /finwait trace || status=$?
	;;
esac
echo
echo "exit status $status"
sync
reboot -f
