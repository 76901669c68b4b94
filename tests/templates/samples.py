"""Chat templates in the manner of well-known model families, written for these tests."""

LLAMA3 = """{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

CHATML = """{% if messages[0]['role'] != 'system' %}<|im_start|>system
You are helpful.<|im_end|>
{% endif %}
{% for message in messages %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""

GEMMA = """{{ bos_token }}
{%- if messages[0].role == 'system' -%}
    {{ raise_exception('System role not supported') }}
{%- endif -%}
{%- for message in messages -%}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif -%}
    {%- set role = 'model' if message.role == 'assistant' else message.role -%}
    {{ '<start_of_turn>' + role + '\\n' + message.content | trim + '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""

MISTRAL = """{%- set ns = namespace(system='', index=0) %}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}
        {%- set ns.system = message['content'] + '\\n\\n' %}
        {%- continue %}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- (bos_token if ns.index == 0 else '') + '[INST] ' }}
        {{- ns.system + message.content + ' [/INST]' }}
        {%- set ns.system = '' %}
    {%- else %}
        {%- generation %}{{ ' ' + message.content + eos_token }}{% endgeneration %}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
{%- endfor %}"""

TOOLS = """{%- macro field(name, value) %}
{{ name | tojson }}: {{ value | tojson(indent=2) }}{% endmacro %}
{%- if tools is none and documents is not defined or documents is none %}no tools {% endif %}
{%- set d = dict(a=1, b=[1, 'ü']) %}
{{ field('d', d) }} {{ strftime_now('%Y') }}
{%- for key, value in d.items() %} {{ key }}={{ value }}{% endfor %}
{{ messages | map(attribute='role') | join(',') }} {{ messages | length }}
{%- for m in messages if m.role == 'user' %}
  {{ m.content[:3] | upper }}{% if loop.last %}{% break %}{% endif %}
{% endfor %}
{{ unknown }}|{{ pad_token is defined }}"""

SAMPLES = {
    "llama-3": LLAMA3,
    "chatml": CHATML,
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "tools": TOOLS,
}

CONVERSATIONS = (
    [{"role": "user", "content": " Hi there \n"}],
    [
        {"role": "user", "content": "Grüße 🙂 <b>&amp;</b> {{ x }}"},
        {"role": "assistant", "content": "日本語"},
        {"role": "user", "content": ""},
    ],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a\r\nb", "name": "Ann"},
    ],
)
