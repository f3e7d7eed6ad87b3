"""The functions that an expression may use, by their names in the engine.

Each computes a value from its arguments alone: none reads a file, a setting, a clock or the
engine's catalog, runs a text as SQL, gives another value each time, or makes rows. What is not here
is refused, so a function that a later engine adds is, too. Syntax that the engine turns into a
function has that function's name here, such as `list_value` for `[x]` and `trunc` within INTERVAL.
"""

_OPERATORS = """
    + - * / // % ** ^ || !__postfix
    & | ~ << >> xor
    ~~ !~~ ~~* !~~* ~~~ like_escape not_like_escape ilike_escape not_ilike_escape ^@
    @ && @> <@ ->> <-> <=>
"""
_NUMBERS = """
    abs add subtract multiply divide mod fmod fdiv sign signbit even factorial gamma lgamma
    ceil ceiling floor round round_even roundbankers trunc nextafter
    gcd greatest_common_divisor lcm least_common_multiple
    sqrt cbrt pow power exp ln log log2 log10 pi degrees radians
    sin cos tan cot asin acos atan atan2 sinh cosh tanh asinh acosh atanh
    bit_count bit_length bit_position get_bit
    greatest least nullif isnan isinf isfinite
"""
_TEXTS = """
    length len char_length character_length strlen length_grapheme octet_length
    lower lcase upper ucase trim ltrim rtrim lpad rpad repeat reverse replace translate
    substr substring substring_grapheme left left_grapheme right right_grapheme
    contains prefix starts_with suffix ends_with instr position strpos
    concat concat_ws format printf
    split split_part str_split string_split string_to_array str_split_regex string_split_regex
    regexp_matches regexp_full_match regexp_extract regexp_extract_all regexp_replace
    regexp_split_to_array regexp_escape
    ascii chr ord unicode strip_accents nfc_normalize
    bin hex to_base to_binary to_hex unbin unhex from_binary from_hex
    base64 to_base64 from_base64 encode decode url_encode url_decode
    hash md5 md5_number sha1 sha256
    damerau_levenshtein editdist3 hamming jaccard jaro_similarity jaro_winkler_similarity
    levenshtein mismatches
"""
_TIMES = """
    strptime try_strptime strftime timezone
    make_date make_time make_timestamp make_timestamp_ms make_timestamp_ns make_timestamptz
    epoch epoch_ms epoch_us epoch_ns to_timestamp
    to_microseconds to_milliseconds to_seconds to_minutes to_hours to_days to_weeks to_months
    to_quarters to_years to_decades to_centuries to_millennia
    date_add date_diff datediff date_sub datesub date_trunc datetrunc date_part datepart
    time_bucket last_day dayname monthname
    nanosecond microsecond millisecond second minute hour
    day dayofmonth dayofweek dayofyear weekday isodow week weekofyear yearweek month quarter
    year isoyear decade century millennium era julian timezone_hour timezone_minute
"""
_LISTS = """
    list_value list_pack array_value
    list_extract list_element array_extract list_slice array_slice array_length
    list_contains list_has array_contains array_has list_has_all array_has_all
    list_has_any array_has_any list_position list_indexof array_position array_indexof
    list_append array_append array_push_back list_prepend array_prepend array_push_front
    array_pop_back array_pop_front list_concat list_cat array_concat array_cat flatten
    list_distinct array_distinct list_unique array_unique list_intersect array_intersect
    list_sort array_sort list_reverse_sort array_reverse_sort list_reverse array_reverse
    list_grade_up array_grade_up grade_up
    list_select array_select list_where array_where list_zip array_zip array_to_string
    list_any_value list_avg list_bit_and list_bit_or list_bit_xor list_bool_and list_bool_or
    list_count list_entropy list_first list_kurtosis list_last list_mad list_max list_median
    list_min list_mode list_product list_skewness list_stddev_pop list_stddev_samp
    list_string_agg list_sum list_var_pop list_var_samp
    list_cosine_distance list_cosine_similarity list_distance list_dot_product
    list_inner_product array_cosine_distance array_cosine_similarity array_distance
    array_dot_product array_inner_product
"""
_LAMBDAS = """
    list_transform list_apply array_transform array_apply apply
    list_filter array_filter filter
    list_reduce array_reduce reduce
"""
_RECORDS = """
    struct_pack struct_extract struct_extract_at
    map map_from_entries map_extract map_extract_value element_at map_contains map_keys
    map_values map_entries cardinality
    json_extract json_extract_path json_extract_string json_extract_path_text json_value
    json_exists json_contains json_keys json_type json_valid json_array_length
"""
_AGGREGATES = """
    count count_star count_if countif approx_count_distinct
    sum fsum kahan_sum sumkahan product avg mean favg min max
    median mad quantile quantile_cont quantile_disc mode entropy
    stddev stddev_pop stddev_samp variance var_pop var_samp sem skewness kurtosis kurtosis_pop
    corr covar_pop covar_samp
    regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy
    first last any_value arbitrary
    arg_min argmin min_by arg_min_null arg_max argmax max_by arg_max_null
    bool_and bool_or bit_and bit_or bit_xor
    list array_agg string_agg listagg group_concat
"""
_PLACES = """
    row_number rank dense_rank percent_rank cume_dist ntile
    lag lead first_value last_value nth_value fill
"""


def _names(*topics: str) -> frozenset[str]:
    return frozenset(name for topic in topics for name in topic.split())


TAKING_LAMBDAS = _names(_LAMBDAS)
"""Those whose second argument is a function of a list's elements."""
OF_A_ROW = _names(_OPERATORS, _NUMBERS, _TEXTS, _TIMES, _LISTS, _LAMBDAS, _RECORDS)
"""Those of one row's values."""
OF_WINDOWS = _names(_AGGREGATES, _PLACES)
"""Those of several rows, which need OVER."""
