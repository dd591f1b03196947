/* cmocka deprecates its assert_in_range() from 2.0 on, and earlier releases lack what follows it. */
#ifndef ASSERT_BETWEEN_H
#define ASSERT_BETWEEN_H

/* Print the number where it is not from "least" to "most". */
#define assert_between(number, least, most)                                                        \
	do                                                                                             \
	{                                                                                              \
		long found_ = (number);                                                                    \
                                                                                                   \
		if (found_ < (least) || found_ > (most))                                                   \
			fail_msg("%s is %ld, not from %ld to %ld", #number, found_, (long) (least),            \
					 (long) (most));                                                               \
	} while (0)

#endif
